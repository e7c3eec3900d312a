"""Messages of pluginregistration.Registration."""
