"""One file a method: the configuration, the loss as an equation, and the module that holds both."""
