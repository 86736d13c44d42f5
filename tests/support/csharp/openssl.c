// Three functions that .NET Core 3.1 looks for in OpenSSL 1.1, by those of OpenSSL 3.
int EVP_MD_get_size(const void*);
void* SSL_get1_peer_certificate(const void*);

void ERR_put_error(int library, int function, int reason, const char* file, int line) {}
int EVP_MD_size(const void* kind) { return EVP_MD_get_size(kind); }
void* SSL_get_peer_certificate(const void* ssl) { return SSL_get1_peer_certificate(ssl); }
