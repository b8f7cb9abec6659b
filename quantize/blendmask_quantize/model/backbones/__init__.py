"""ResNet, DLA-34 and EfficientNet-Lite0."""
