"""Networks with a Lipschitz constant, and its bounds; skrobust.deep exports them."""
