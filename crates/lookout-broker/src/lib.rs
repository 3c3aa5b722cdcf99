//! A small MQTT 3.1.1 broker for the demo and for scripted faults.
