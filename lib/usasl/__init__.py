# usasl: SASL mechanisms as generators. Knows nothing of MQTT, sockets or boards. Import usasl.scram.
