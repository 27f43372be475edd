"""Tests of `finance_os.webhooks`: signatures made independently, over real sockets."""
