/** A queue in which the owners of the items take turns: who has many waiting holds up only himself. */
export class TurnQueue<Item> {
  /** In the order of their turns; an owner without items is not in it. */
  private readonly owners = new Map<string, Item[]>();

  get isEmpty(): boolean {
    return this.owners.size === 0;
  }

  push(owner: string, item: Item): void {
    const items = this.owners.get(owner);
    if (items === undefined) this.owners.set(owner, [item]);
    else items.push(item);
  }

  /** The oldest item of the owner whose turn it is; undefined if there is none. */
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
