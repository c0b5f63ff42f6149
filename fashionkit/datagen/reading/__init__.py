"""What `fashionkit.datagen.dataset` is made of: order, id columns, text and pictures, all without torch."""
