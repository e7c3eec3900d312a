"""Gives whole PCI devices to virtual machines and takes them back, through sysfs. Used by `node` only.

What is to be done is decided in `core.passthrough`. Nothing here belongs to one vendor.
"""
