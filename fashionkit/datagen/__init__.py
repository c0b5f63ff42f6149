"""Question generation: template packs, programs, grammar, negatives, difficulty, balance, store, exports."""
