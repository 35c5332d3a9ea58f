"""DP-SGD and privacy ledgers."""
