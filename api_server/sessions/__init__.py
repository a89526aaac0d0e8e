"""The live sessions, as people and scripts see them."""
