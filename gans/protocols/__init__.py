"""The published mode-collapse protocols: their data, networks, budgets, definitions and figures."""
