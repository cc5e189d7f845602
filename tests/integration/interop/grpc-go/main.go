// SPDX-License-Identifier: Apache-2.0

// A grpc-go peer with mutual TLS, for tests of interoperation.
//
//	peer client <target> <directory> <method> <message>   prints `code <name>` or the answer
//	peer server <directory>                               prints its port, ends with stdin
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
)

const orders = "spiffe://example.org/ns/shop/sa/orders"

// raw passes messages as bytes.
type raw struct{}

func (raw) Marshal(value any) ([]byte, error) { return *value.(*[]byte), nil }
func (raw) Name() string                      { return "proto" }
func (raw) Unmarshal(data []byte, value any) error {
	*value.(*[]byte) = append([]byte(nil), data...)
	return nil
}

func main() {
	var err error
	switch os.Args[1] {
	case "client":
		err = call(os.Args[2], os.Args[3], os.Args[4], []byte(os.Args[5]))
	case "server":
		err = serve(os.Args[2])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func load(directory string) (tls.Certificate, *x509.CertPool, error) {
	own, err := tls.LoadX509KeyPair(directory+"/chain.pem", directory+"/key.pem")
	if err != nil {
		return own, nil, err
	}
	pem, err := os.ReadFile(directory + "/roots.pem")
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return own, roots, err
}

func call(target, directory, method string, message []byte) error {
	own, roots, err := load(directory)
	if err != nil {
		return err
	}
	settings := &tls.Config{
		Certificates:       []tls.Certificate{own},
		InsecureSkipVerify: true, // names no host: the name in the certificate is checked below
		VerifyConnection: func(state tls.ConnectionState) error {
			return verify(state.PeerCertificates, roots)
		},
	}
	channel, err := grpc.NewClient(
		target,
		grpc.WithTransportCredentials(credentials.NewTLS(settings)),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})),
	)
	if err != nil {
		return err
	}
	defer channel.Close()
	deadline, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var answer []byte
	if err := channel.Invoke(deadline, method, &message, &answer); err != nil {
		fmt.Printf("code %s", status.Code(err))
		return nil
	}
	fmt.Print(string(answer))
	return nil
}

func verify(chain []*x509.Certificate, roots *x509.CertPool) error {
	intermediates := x509.NewCertPool()
	for _, each := range chain[1:] {
		intermediates.AddCert(each)
	}
	options := x509.VerifyOptions{Roots: roots, Intermediates: intermediates}
	if _, err := chain[0].Verify(options); err != nil {
		return err
	}
	if len(chain[0].URIs) != 1 || chain[0].URIs[0].String() != orders {
		return errors.New("another server")
	}
	return nil
}

func serve(directory string) error {
	own, roots, err := load(directory)
	if err != nil {
		return err
	}
	settings := &tls.Config{
		Certificates: []tls.Certificate{own},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    roots,
	}
	server := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(settings)),
		grpc.ForceServerCodec(raw{}),
		grpc.UnknownServiceHandler(echo),
	)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() {
		io.Copy(io.Discard, os.Stdin)
		server.Stop()
	}()
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	return server.Serve(listener)
}

func echo(_ any, stream grpc.ServerStream) error {
	for {
		var message []byte
		if err := stream.RecvMsg(&message); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		answer := append([]byte("go "), message...)
		if err := stream.SendMsg(&answer); err != nil {
			return err
		}
	}
}
