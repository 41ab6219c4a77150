"""Send HTTP requests and return the bytes of the responses; network failures raise `H2oError`.

Only this folder imports requests and urllib3.
"""
