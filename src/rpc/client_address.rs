//! The address of the client for whom a proxy or a service calls, from `x-forwarded-for`.
//!
//! Each hop appends the address from which it was called, so only the last entries are reliable.
//! The entries are read from the right, for as long as the hop that wrote them is trusted.

use std::{fmt, net::IpAddr, sync::Arc};

use http::{HeaderMap, HeaderName};

use super::connection_info::ConnectionInfo;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The networks of proxies whose `x-forwarded-for` is trusted. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Arc<[Network]>);

/// The addresses with a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    prefix: u32,
}

/// Where a call comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClientAddress {
    /// The client's address, as far as trusted hops tell it.
    pub(super) client: IpAddr,
    /// The remote end of the connection.
    peer: IpAddr,
}

impl ClientAddress {
    /// The remote end of the connection, if it is another host than the client.
    pub(super) fn proxy(&self) -> Option<IpAddr> {
        (self.peer != self.client).then_some(self.peer)
    }
}

impl TrustedProxies {
    /// Networks such as `10.0.0.0/8, fd00::/8`, and addresses, with commas or white space in
    /// between.
    ///
    /// # Errors
    ///
    /// An entry is no network.
    pub fn parse(text: &str) -> Result<Self, String> {
        let entries = text.split(|c: char| c == ',' || c.is_whitespace());
        let entries = entries.filter(|entry| !entry.is_empty());
        entries
            .map(Network::parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The address of a call's client. `peer_is_trusted`: the caller may forward addresses,
    /// wherever its connection comes from.
    pub(super) fn client(
        &self,
        connection: &ConnectionInfo,
        headers: &HeaderMap,
        peer_is_trusted: bool,
    ) -> Option<ClientAddress> {
        let peer = connection.ip_address()?;
        let client = self.walk(peer, headers, peer_is_trusted);
        Some(ClientAddress { client, peer })
    }

    /// The first hop from the right that is not trusted; the leftmost if all are trusted. An entry
    /// that is no address, such as `unknown`, ends the walk at the hop that wrote it.
    fn walk(&self, peer: IpAddr, headers: &HeaderMap, peer_is_trusted: bool) -> IpAddr {
        let mut hop = peer;
        let mut trusted = peer_is_trusted || self.contains(peer);
        // Several headers are one list.
        for value in headers.get_all(FORWARDED_FOR).iter().rev() {
            for entry in value.as_bytes().rsplit(|byte| *byte == b',') {
                if !trusted {
                    return hop;
                }
                let Some(address) = address(entry) else {
                    return hop;
                };
                hop = address;
                trusted = self.contains(hop);
            }
        }
        hop
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }
}

impl Network {
    fn parse(text: &str) -> Result<Self, String> {
        let expected = || {
            format!(
                "{text:?} is no network: expected addresses or networks such as 10.0.0.0/8, fd00::/8"
            )
        };
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| expected())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            Some(prefix) => prefix.parse().map_err(|_| expected())?,
        };
        if prefix > bits {
            return Err(expected());
        }
        let network = Self { address, prefix };
        if network.masked(address) != network.number() {
            return Err(format!("{text:?} has address bits after its prefix"));
        }
        Ok(network)
    }

    fn contains(self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && self.masked(address) == self.number()
    }

    fn number(self) -> u128 {
        number(self.address)
    }

    /// The address without the bits after the prefix.
    fn masked(self, address: IpAddr) -> u128 {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let mask = u128::MAX
            .checked_shl(bits - self.prefix)
            .unwrap_or_default();
        number(address) & mask
    }
}

/// As a list in a setting.
impl fmt::Display for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Network { address, prefix }) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{address}/{prefix}")?;
        }
        Ok(())
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// An entry: an address, with a port or without. IPv6 with a port is in brackets.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let entry = std::str::from_utf8(entry).ok()?.trim_matches([' ', '\t']);
    let address = match entry.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            if !port.is_empty() {
                port.strip_prefix(':')?.parse::<u16>().ok()?;
            }
            IpAddr::V6(address.parse().ok()?)
        }
        None => match entry.split_once(':') {
            Some((v4, port)) if !port.contains(':') => {
                port.parse::<u16>().ok()?;
                IpAddr::V4(v4.parse().ok()?)
            }
            _ => entry.parse().ok()?,
        },
    };
    // A dual-stack socket tells IPv4 addresses as IPv6 ones.
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The client of a call from `peer` with these headers.
    fn client(proxies: &str, peer: &str, trusted: bool, headers: &[&'static str]) -> String {
        let mut map = HeaderMap::new();
        for value in headers {
            map.append(FORWARDED_FOR, value.parse().unwrap());
        }
        let proxies = TrustedProxies::parse(proxies).unwrap();
        proxies
            .walk(peer.parse().unwrap(), &map, trusted)
            .to_string()
    }

    #[test]
    fn nobody_is_trusted_by_default() {
        assert_eq!(client("", "10.0.0.1", false, &["192.0.2.7"]), "10.0.0.1");
        let others = client("10.0.0.0/8", "11.0.0.1", false, &["192.0.2.7"]);
        assert_eq!(others, "11.0.0.1");
    }

    #[test]
    fn the_hops_of_trusted_networks_are_passed_over_from_the_right() {
        for (headers, expected) in [
            (&[][..], "10.0.0.1"),
            (&["192.0.2.7"], "192.0.2.7"),
            // The player has sent the first entry.
            (&["198.51.100.1, 192.0.2.7"], "192.0.2.7"),
            (&["198.51.100.1", "192.0.2.7, 10.9.9.9"], "192.0.2.7"),
            (&["192.0.2.7,10.9.9.9,\t10.8.8.8 "], "192.0.2.7"),
            (&["10.9.9.9, 10.8.8.8"], "10.9.9.9"),
            (&["192.0.2.7, fd00::5"], "192.0.2.7"),
        ] {
            let client = client("10.0.0.0/8 fd00::/8", "10.0.0.1", false, headers);
            assert_eq!(client, expected, "{headers:?}");
        }
    }

    #[test]
    fn a_service_that_may_forward_is_trusted_for_one_hop() {
        let service = |headers| client("", "10.0.0.1", true, headers);
        assert_eq!(service(&["192.0.2.7"]), "192.0.2.7");
        assert_eq!(service(&["198.51.100.1, 192.0.2.7"]), "192.0.2.7");
        assert_eq!(service(&[]), "10.0.0.1");
    }

    #[test]
    fn ports_ipv6_and_mapped_addresses() {
        for (entry, expected) in [
            ("192.0.2.7:50123", "192.0.2.7"),
            ("2001:db8::7", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("[2001:db8::7]:50123", "2001:db8::7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("[::ffff:192.0.2.7]:1", "192.0.2.7"),
        ] {
            assert_eq!(client("10.0.0.1", "10.0.0.1", false, &[entry]), expected);
        }
        let mapped = client(
            "10.0.0.0/8",
            "10.0.0.1",
            false,
            &["192.0.2.7, ::ffff:10.2.2.2"],
        );
        assert_eq!(mapped, "192.0.2.7");
    }

    #[test]
    fn an_entry_that_is_no_address_ends_the_walk() {
        for entry in [
            "",
            "unknown",
            "_hidden",
            "192.0.2.7:",
            "192.0.2.7:x",
            "192.0.2.7:70000",
            "[192.0.2.7]",
            "[2001:db8::7",
            "[2001:db8::7]x",
            "fe80::1%eth0",
            "192.0.2.7;",
            "\"192.0.2.7\"",
            "1.2.3",
            "192.000.002.007",
        ] {
            let header = [entry];
            assert_eq!(
                client("10.0.0.0/8", "10.0.0.1", false, &header),
                "10.0.0.1",
                "{entry}"
            );
        }
        let header = ["192.0.2.7, unknown, 10.9.9.9"];
        assert_eq!(client("10.0.0.0/8", "10.0.0.1", false, &header), "10.9.9.9");
    }

    #[test]
    fn networks_of_settings() {
        let parsed = |text| TrustedProxies::parse(text).map(|proxies| proxies.to_string());
        assert_eq!(
            parsed(" 10.0.0.0/8,fd00::/8\n192.0.2.1 ::1,0.0.0.0/0,::/0 ").unwrap(),
            "10.0.0.0/8, fd00::/8, 192.0.2.1/32, ::1/128, 0.0.0.0/0, ::/0"
        );
        assert_eq!(parsed("").unwrap(), "");
        for wrong in [
            "10.0.0.0/33",
            "::/129",
            "10.0.0.1/8",
            "10.0.0/8",
            "x",
            "10.0.0.0/",
            "10.0.0.0/-1",
        ] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
        let all = TrustedProxies::parse("0.0.0.0/0").unwrap();
        assert!(all.contains("192.0.2.7".parse().unwrap()));
        assert!(!all.contains("2001:db8::7".parse().unwrap()));
    }
}
