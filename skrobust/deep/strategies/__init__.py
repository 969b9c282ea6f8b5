"""Training strategies, one a file; skrobust.deep exports them."""
