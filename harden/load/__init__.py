"""Load: measure streams, keep a ledger, read the server's metrics, judge. No Locust in here."""
