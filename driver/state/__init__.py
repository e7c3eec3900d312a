"""The node's disk: durable writes, records of prepared claims, the CDI folder, locks."""
