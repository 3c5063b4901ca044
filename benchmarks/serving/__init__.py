"""The server beside others, as a share of the same pipeline without HTTP."""
