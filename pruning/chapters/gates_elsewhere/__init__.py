"""Gates elsewhere: Fashion-MNIST, a convolutional network on CIFAR-10, and the temperature."""
