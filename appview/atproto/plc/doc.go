// Package plc makes, signs and checks did:plc operations, and speaks to a PLC directory.
//
// operation.go is pure; client.go reads and writes a directory. The method is specified at
// https://web.plc.directory/spec/v0.1/did-plc.
package plc
