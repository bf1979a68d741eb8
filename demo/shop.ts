/*
 * The shop whose gateway the demo plays: its operations, the subgraphs that they ask, and how long those take.
 * From half to three quarters of the time, one subgraph is slow and fails: something to find in the traces.
 */

export interface Operation {
  readonly name: string;
  readonly type: 'query' | 'mutation';
  readonly client: string;
  /** How often it is asked, beside the others. */
  readonly weight: number;
  readonly document: string;
  /** Subgraphs, in the order of the query plan; those of one step are asked at the same time. */
  readonly plan: readonly (readonly Subgraph[])[];
}

export type Subgraph = 'accounts' | 'products' | 'reviews' | 'inventory' | 'orders' | 'search';

/** What an answer takes as a rule, and the share of answers that are errors. */
export const SUBGRAPHS: Readonly<Record<Subgraph, { typicalMs: number; errorRate: number }>> = {
  accounts: { typicalMs: 6, errorRate: 0.001 },
  products: { typicalMs: 12, errorRate: 0.002 },
  reviews: { typicalMs: 18, errorRate: 0.005 },
  inventory: { typicalMs: 9, errorRate: 0.002 },
  orders: { typicalMs: 25, errorRate: 0.01 },
  search: { typicalMs: 45, errorRate: 0.003 },
};

export const INCIDENT = { subgraph: 'reviews', from: 0.5, to: 0.75, slower: 12, errorRate: 0.35 } as const;

export const OPERATIONS: readonly Operation[] = [
  {
    name: 'ProductPage',
    type: 'query',
    client: 'web',
    weight: 30,
    document:
      'query ProductPage($id: ID!) { product(id: $id) { id name price inStock reviews(first: 5) { id body rating author { username } } } }',
    plan: [['products'], ['reviews', 'inventory'], ['accounts']],
  },
  {
    name: 'TopProducts',
    type: 'query',
    client: 'web',
    weight: 25,
    document: 'query TopProducts($first: Int) { topProducts(first: $first) { id name price inStock } }',
    plan: [['products'], ['inventory']],
  },
  {
    name: 'Search',
    type: 'query',
    client: 'web',
    weight: 15,
    document: 'query Search($text: String!) { search(text: $text) { total hits { ... on Product { id name price } } } }',
    plan: [['search'], ['products']],
  },
  { name: 'Me', type: 'query', client: 'ios', weight: 15, document: 'query Me { me { id username name } }', plan: [['accounts']] },
  {
    name: 'Cart',
    type: 'query',
    client: 'android',
    weight: 10,
    document: 'query Cart { me { cart { total currency items { quantity product { id name price } } } } }',
    plan: [['accounts'], ['orders'], ['products']],
  },
  {
    name: 'AddToCart',
    type: 'mutation',
    client: 'android',
    weight: 4,
    document: 'mutation AddToCart($id: ID!, $quantity: Int!) { addToCart(product: $id, quantity: $quantity) { total } }',
    plan: [['inventory'], ['orders']],
  },
  {
    name: 'WriteReview',
    type: 'mutation',
    client: 'ios',
    weight: 1,
    document:
      'mutation WriteReview($product: ID!, $body: String!, $rating: Int!) ' +
      '{ writeReview(product: $product, body: $body, rating: $rating) { id } }',
    plan: [['reviews']],
  },
];
