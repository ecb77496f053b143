"""Where data, functions and results are: the two adapters of `mrq.ports.Store`.

folder.py    a local folder
hdfs/        HDFS, through HttpFS gateways or directly
address.py   a store's address as JSON, and how to open it
paths.py     which paths both take

Nothing is imported here, for each adapter costs something: `mrq.store.address.open_store` imports the one
that it needs.
"""
