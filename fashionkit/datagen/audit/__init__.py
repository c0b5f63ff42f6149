"""The bias gate: what a question set gives away without its pictures, measured; `fashionkit datagen audit`."""
