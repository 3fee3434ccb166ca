"""Pure values: element types, tensors, layouts, manifests."""
