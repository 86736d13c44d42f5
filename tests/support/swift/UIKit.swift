// The part of UIKit that edgeq's Swift files use, and what Foundation has on Apple's systems alone.

import Foundation

public enum UIApplication {
    public static let didReceiveMemoryWarningNotification = Notification.Name("memory")
}

public struct Notifications: AsyncSequence, Sendable {
    public struct AsyncIterator: AsyncIteratorProtocol {
        public mutating func next() async -> Notification? { nil }
    }

    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator() }
}

extension NotificationCenter {
    public func notifications(named name: Notification.Name, object: AnyObject? = nil)
        -> Notifications
    { Notifications() }
}
