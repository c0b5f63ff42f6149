"""Networks as plain `nn.Module`s that can be read in one sitting: tensors in, tensors out, no training loop."""
