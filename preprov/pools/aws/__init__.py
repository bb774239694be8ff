"""Amazon EC2: nodes of an instant fleet or of an Auto Scaling group with its warm pool."""
