"""The networks: a ResNet-style body, heads for class and box, and their assembly."""
