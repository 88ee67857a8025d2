"""The chapter resnet_pruning."""
