"""What both HTTP servers need: routes, bodies, problems, who may ask."""
