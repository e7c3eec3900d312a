"""The admission webhook: tells whoever creates a claim, template or class what is wrong with our configuration in it.

`app` composes it, `accel-dra webhook` runs it, docs/webhook.md says what it checks.
"""
