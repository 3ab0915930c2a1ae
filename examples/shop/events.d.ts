// The types of the data, as `broker types` writes them from what the server has. `ends` is in milliseconds.
interface BrokerEvents {
  [name: `products/${string}`]: { name: string };
  [name: `prices/${string}`]: { cents: number };
  [name: `offers/${string}`]: { cents: number; ends: number };
}
