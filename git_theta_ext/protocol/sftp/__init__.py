"""SFTP version 3, as a client: requests to bytes, bytes to answers.

Sources: draft-ietf-secsh-filexfer-02, and OpenSSH's ``PROTOCOL`` for the extensions. Integers are big-endian, a string
is its length and its bytes, and a packet is its length, its type, the number of the request, and fields.
"""
