// The part of swift-transformers 1.0's product Tokenizers that edgeq's Swift files use.

import AppleHost
import Foundation

public typealias Message = [String: any Sendable]

public protocol Tokenizer: Sendable {
    func encode(text: String) -> [Int]
    func decode(tokens: [Int], skipSpecialTokens: Bool) -> String
    func applyChatTemplate(messages: [Message]) throws -> [Int]
}

public enum AutoTokenizer {
    public static func from(modelFolder: URL) async throws -> any Tokenizer {
        let answer = try Host.shared.ask("tokenizer", ["path": modelFolder.path])
        return Asked(number: answer["number"] as! Int)
    }
}

private struct Asked: Tokenizer {
    let number: Int

    func encode(text: String) -> [Int] {
        try! Host.shared.ask("encode", ["model": number, "text": text])["ids"] as! [Int]
    }

    func decode(tokens: [Int], skipSpecialTokens: Bool) -> String {
        let fields: [String: Any] = ["model": number, "ids": tokens, "skip": skipSpecialTokens]
        return try! Host.shared.ask("decode", fields)["text"] as! String
    }

    func applyChatTemplate(messages: [Message]) throws -> [Int] {
        try Host.shared.ask("chat", ["model": number, "messages": messages])["ids"] as! [Int]
    }
}
