"""Make a mixture of experts from dense models: layout, configuration and routers, without reading an expert."""
