"""What several families are built of: bases, ropes, experts, pooling."""
