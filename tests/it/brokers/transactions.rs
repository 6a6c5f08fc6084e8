//! Which transactions are open at a broker: Kafka's `ListTransactions` request (key 66, version 0), spoken by hand because librdkafka
//! has no call for it and a Java tool takes seconds to start. A test that wants to kill inside a transaction asks this first.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Transactional ids in state `Ongoing`, of those that the broker on this port coordinates.
pub fn open(port: u16) -> io::Result<Vec<String>> {
    let mut request = Vec::new();
    request.extend(66i16.to_be_bytes());
    request.extend(0i16.to_be_bytes());
    request.extend(1i32.to_be_bytes()); // correlation id
    request.extend((-1i16).to_be_bytes()); // no client id
    request.push(0); // no tagged fields in the header
    request.extend([2, 8]); // one state filter, of 7 bytes (compact lengths are one higher)
    request.extend(b"Ongoing");
    request.push(1); // no producer id filters
    request.push(0); // no tagged fields
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(&(request.len() as i32).to_be_bytes())?;
    stream.write_all(&request)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut body = vec![0; i32::from_be_bytes(length) as usize];
    stream.read_exact(&mut body)?;
    let mut reader = Reader(&body);
    reader.skip(4)?; // correlation id
    reader.tags()?;
    reader.skip(4)?; // throttle time
    let error = i16::from_be_bytes([reader.byte()?, reader.byte()?]);
    if error != 0 {
        return Err(io::Error::other(format!("ListTransactions: error {error}")));
    }
    for _ in 1..reader.varint()? {
        reader.string()?; // a state filter that the broker does not know
    }
    let mut ids = Vec::new();
    for _ in 1..reader.varint()? {
        ids.push(reader.string()?);
        reader.skip(8)?; // producer id
        reader.string()?; // state
        reader.tags()?;
    }
    Ok(ids)
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take(&mut self, n: usize) -> io::Result<&[u8]> {
        let (head, rest) = self.0.split_at_checked(n).ok_or(io::ErrorKind::UnexpectedEof)?;
        self.0 = rest;
        Ok(head)
    }

    fn skip(&mut self, n: usize) -> io::Result<()> {
        self.take(n).map(|_| ())
    }

    fn byte(&mut self) -> io::Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn varint(&mut self) -> io::Result<usize> {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = self.byte()?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
            shift += 7;
        }
    }

    fn string(&mut self) -> io::Result<String> {
        let length = self.varint()?.saturating_sub(1);
        Ok(String::from_utf8_lossy(self.take(length)?).into_owned())
    }

    fn tags(&mut self) -> io::Result<()> {
        for _ in 0..self.varint()? {
            self.varint()?;
            let length = self.varint()?;
            self.skip(length)?;
        }
        Ok(())
    }
}
