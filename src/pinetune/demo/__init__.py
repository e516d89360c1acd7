"""The bundled miniature: fact table, case generator, base recipe and weights."""
