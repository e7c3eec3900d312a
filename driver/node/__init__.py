"""The node plugin process. `app` composes it; nothing else knows all the parts."""
