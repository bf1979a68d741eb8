/** A queue that serves its owners in turn, one item each: an owner with many items delays only its own items. */
export class FairQueue<Item> {
  /** In the order in which they are served. Owners without items are removed. */
  private readonly owners = new Map<string, Item[]>();

  get isEmpty(): boolean {
    return this.owners.size === 0;
  }

  /** Adds an item after the others of its owner. */
  push(owner: string, item: Item): void {
    const items = this.owners.get(owner);
    if (items === undefined) this.owners.set(owner, [item]);
    else items.push(item);
  }

  /** Removes the oldest item of the owner that is next. @returns undefined if the queue is empty */
  shift(): Item | undefined {
    for (const [owner, items] of this.owners) {
      this.owners.delete(owner);
      const item = items.shift();
      if (items.length > 0) this.owners.set(owner, items);
      return item;
    }
    return undefined;
  }
}
