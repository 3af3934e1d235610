package servers

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
)

// kafkaBrokers asks a broker which ones there are: the addresses of its own listener, by Metadata version 1 without topics.
func kafkaBrokers(ctx context.Context, addr string) (map[string]bool, error) {
	conn, err := dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	const metadata, version, correlation, noTopics = 3, 1, 7, 0
	client := "outrigger"
	body := binary.BigEndian.AppendUint16(nil, metadata)
	body = binary.BigEndian.AppendUint16(body, version)
	body = binary.BigEndian.AppendUint32(body, correlation)
	body = binary.BigEndian.AppendUint16(body, uint16(len(client)))
	body = append(body, client...)
	body = binary.BigEndian.AppendUint32(body, noTopics)
	if _, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)); err != nil {
		return nil, err
	}
	size := make([]byte, 4)
	if _, err := io.ReadFull(conn, size); err != nil {
		return nil, err
	}
	const most = 1 << 20
	n := binary.BigEndian.Uint32(size)
	if n > most {
		return nil, errors.New("the answer is too long")
	}
	answer := make([]byte, n)
	if _, err := io.ReadFull(conn, answer); err != nil {
		return nil, err
	}
	return kafkaAddresses(answer)
}

// kafkaAddresses reads the correlation id, and of each broker its id, host, port and rack.
func kafkaAddresses(answer []byte) (map[string]bool, error) {
	in, all := bytes.NewReader(answer), map[string]bool{}
	var head struct{ Correlation, Brokers int32 }
	if err := binary.Read(in, binary.BigEndian, &head); err != nil {
		return nil, err
	}
	text := func() (string, error) {
		var n int16
		if err := binary.Read(in, binary.BigEndian, &n); err != nil || n < 0 {
			return "", err
		}
		b := make([]byte, n)
		_, err := io.ReadFull(in, b)
		return string(b), err
	}
	for range head.Brokers {
		var id, port int32
		if err := binary.Read(in, binary.BigEndian, &id); err != nil {
			return nil, err
		}
		host, err := text()
		if err != nil {
			return nil, err
		}
		if err := binary.Read(in, binary.BigEndian, &port); err != nil {
			return nil, err
		}
		if _, err := text(); err != nil {
			return nil, err
		}
		if host != "127.0.0.1" {
			return nil, errors.New("a broker at " + host)
		}
		all[local(int(port))] = true
	}
	return all, nil
}
