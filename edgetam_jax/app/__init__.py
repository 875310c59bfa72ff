"""The browser app: `edgetam-jax app`. `actions` are what it does, without a browser; `page` makes a page of them."""
