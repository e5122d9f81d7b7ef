"""What data is worth training on: rules, duplicates, benchmarks."""
