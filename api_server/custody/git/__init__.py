"""Git as a store of documents: one commit and push for each batch of changes, never a forced one."""
