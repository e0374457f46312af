"""What Flower must know of ramq's queues; mounted into its container by docker-compose.yml."""

broker_transport_options = {"global_keyprefix": "ramq:"}
accept_content = ["json"]
