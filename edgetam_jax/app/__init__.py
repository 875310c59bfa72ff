"""The browser app, `edgetam-jax app`. `actions` does the work without a browser; `page` connects it to gradio."""
