"""What is measured, against what, and how to run it: one module per thing measured."""
