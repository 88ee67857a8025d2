"""Sampled gradients elsewhere: VGG, DenseNet, a fully connected and a recurrent network."""
