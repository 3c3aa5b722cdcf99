//! MQTT delivery: topics, payloads, acknowledgements.
