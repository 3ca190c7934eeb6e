module example.org/spiffe-credential-broker/tests/vectors/make

go 1.26
