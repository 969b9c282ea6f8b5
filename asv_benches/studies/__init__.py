"""Studies and measurements behind the documentation's numbers; ``python -m studies`` lists them."""
