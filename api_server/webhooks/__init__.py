"""Webhooks: what happens in a team is sent to URLs that it names, signed as Standard Webhooks say.

                       in the transaction of the change        events of sessions and of limits
OutboxedChanges ──────────────┐      ┌──────────────────────── EventCollector
                              ▼      ▼
                        webhook_events, webhook_deliveries     the outbox: an event once, a delivery for each webhook
                                   │ claimed, one process each
                              Courier ──> api_server.outbound (G3) ──> the receiver

An event is delivered at least once: a receiver tells repeats by `webhook-id`. No order is promised.
"""
