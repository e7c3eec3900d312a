"""What is wrong, or will probably go wrong, with a ResourceClaim, a ResourceClaimTemplate or a DeviceClass.

`reviews.review` answers for one object of any served version. The webhook and `accel-dra lint` call it; what it says
of our configuration comes from `core.configuring`, as on the node.
"""
